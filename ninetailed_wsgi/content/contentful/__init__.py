"""Published content straight from Contentful: picked, kept as a copy, and followed (spec section 18)."""
