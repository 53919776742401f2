"""What is made of runs afterwards, for others to read: a page, and exports to where people look."""
