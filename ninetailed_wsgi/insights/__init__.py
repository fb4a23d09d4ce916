"""Measures whether a variant helped: SDK reports about components, results of experiments (spec sections 11 and 12)."""
