"""DeepPot-SE: deep potentials with a smooth two-body-embedding descriptor (``se_e2_a`` of DeePMD-kit)."""
