"""Learning a potential in rounds: explore with it, label what it does not know, learn again."""
