"""The queue in front of the engines: fair between teams, and never longer than engines can work off."""
