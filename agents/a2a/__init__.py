"""Agents for other agents: the A2A protocol, 1.0 and 0.3, on one URL per agent."""
