"""Why a model says what it says: which pixels mattered, layer by layer; and whether that is so."""
