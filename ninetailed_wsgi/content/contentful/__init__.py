"""Published content directly from Contentful: reads what is needed, keeps a copy, follows changes (spec section 18)."""
