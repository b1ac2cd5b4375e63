"""The HTTP side: routes by API, middleware around them, and the wire types they share."""
