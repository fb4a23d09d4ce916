"""Whether a variant helped: what SDKs report of components, and results of experiments (spec sections 11 and 12)."""
