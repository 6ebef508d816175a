"""What an update from one image to another is: what moves, what changes, and why.

`image` opens an image and reads what its layers have, `layer` one of them, `tree` puts them on top
of one another. `estimate` has the planner say what moves, `causes` what for, `changes` what is
different. `diff` does all of it for two images, `history` for the tags of a repository. `report`
is what they return.
"""
