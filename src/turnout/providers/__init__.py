"""How is it said on the wire?"""
