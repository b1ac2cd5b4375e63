"""Wire types and checks that several APIs share."""
