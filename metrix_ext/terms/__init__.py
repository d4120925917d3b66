"""What a sum of Eq. (7) and (9) is over: its formula, who is positive and negative for whom, the mixes."""
