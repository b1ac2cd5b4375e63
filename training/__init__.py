"""Training and scoring of the demo model; `serving` ships what comes of it, in serving/demo."""
