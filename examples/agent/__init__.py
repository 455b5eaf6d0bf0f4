"""An agent that answers questions from a folder of notes: it plans, looks things up, and streams a report."""
