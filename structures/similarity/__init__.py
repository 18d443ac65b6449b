"""How alike structures are, one by one and as sets: what models that generate structures are judged by."""
