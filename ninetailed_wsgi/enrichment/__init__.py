"""What a request tells about its visitor besides events: address, location and device."""
