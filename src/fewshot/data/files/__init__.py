"""Files that others wrote: archives, pickles, downloads."""
