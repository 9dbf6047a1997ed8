"""What an incident looks like to people, and how it gets to them."""
