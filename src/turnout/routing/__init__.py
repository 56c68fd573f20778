"""Which model, then which?"""
