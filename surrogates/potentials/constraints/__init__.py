"""Physical constraints: terms of the loss that look at what a potential gives for crystals and their defects."""
