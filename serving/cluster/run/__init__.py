"""`serving up`: one process tree that starts Ray, deploys the application and takes both down."""
