"""The order of the tasks; each flow reads as a paragraph."""
