"""Pages for the people who run a site: who gets what, and why (spec section 14)."""
