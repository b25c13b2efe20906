"""The answers: experiments, one file each, which the pages of docs/lab are made of."""
