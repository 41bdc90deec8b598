"""What GPU time and tokens cost: price books, rates, and quotes made of them."""
