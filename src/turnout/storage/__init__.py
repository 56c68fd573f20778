"""Where is it kept? A journal first, tables behind it; nothing here is loaded before it is needed."""
