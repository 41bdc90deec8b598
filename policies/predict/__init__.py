"""How many tokens an answer will have, from what is known before it: a prior, what answers came to, a trained model."""
