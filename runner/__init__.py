"""Many stages at once. The only code that knows DVC's internals; nothing else imports it."""
