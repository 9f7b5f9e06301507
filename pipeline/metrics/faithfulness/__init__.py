"""Does a map show what the model uses? The picture is changed as the map says, and the score of its class followed."""
