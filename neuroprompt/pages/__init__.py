"""What is shown to people: grids of pictures, plots, tables, and the pages that they stand in."""
