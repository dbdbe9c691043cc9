"""What every measurement here is made of: servers, loads, data, reports."""
