"""Daily prices of five shares, 2000 to 2013: returns, trends, and how far a price is below its peak."""
