"""From random alloys to optimized ones by crystal generators: data, local search, training, optimization, labels."""
