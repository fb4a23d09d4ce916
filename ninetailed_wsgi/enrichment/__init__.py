"""What a request reveals about its visitor besides events: address, location, company and device."""
