"""Bodies and replies of the routes for the administrator."""
