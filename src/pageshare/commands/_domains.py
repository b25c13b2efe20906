"""Sharing domains on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pageshare.commands import UsageError


def add_domain_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``--domain`` and ``--domain-per-owner``."""
    domains = parser.add_argument_group("sharing domains: only pages of one domain are shared")
    domains.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME=OWNER[,OWNER...]",
        help="put owners into a domain; those not named share the domain 'default'; may be given several times",
    )
    domains.add_argument("--domain-per-owner", action="store_true", help="no sharing between owners")


def domains_asked(args: argparse.Namespace, owners: Sequence[str]) -> list[str]:
    """The domain of each owner. Raises UsageError."""
    from pageshare.scanner import domains_of

    domains = domains_given(args.domain)
    try:
        return domains_of(owners, domains, per_owner=args.domain_per_owner)
    except ValueError as error:
        raise UsageError(f"--domain: {error}") from None


def domains_given(arguments: list[str]) -> dict[str, list[str]]:
    """The owners of each ``--domain NAME=OWNER,..``; UsageError for what is none."""
    domains: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, members = argument.partition("=")
        owners = [owner for owner in members.split(",") if owner]
        if not name or not equals or not owners:
            raise UsageError(f"--domain {argument}: must be NAME=OWNER[,OWNER...]")
        domains.setdefault(name, []).extend(owners)
    return domains
