"""The HTTP side: routes by API, the middleware around them, and the wire types they share."""
