"""Processes that wait: process managers, their timers, schedules."""
