"""Tasks: what one is made of, and which rows task number `i` consists of."""
