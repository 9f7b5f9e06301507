"""Many stages at once. The only code that knows DVC's insides; nothing of the project imports it."""
