"""What is shown of the past and of the present: reports, decisions, pools and policies, as values for any surface."""
