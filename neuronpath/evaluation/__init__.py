"""What paths really do: interventions, comparisons with controls, classes, the paper's claims."""
