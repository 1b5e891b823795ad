"""Meters (RAPL, NVML, NVMe, storage, models), and how they are found."""
