"""Classifiers: how they are built, trained and evaluated, and the states that they are explained in."""
