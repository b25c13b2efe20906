"""The laboratory: ballooning, idle memory tax, estimators of idle memory, simulated.

Everything here is a simulation in virtual time, by its own rules and numbers; what they are calibrated against is said
beside each result.
"""
