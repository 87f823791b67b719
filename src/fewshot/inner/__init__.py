"""The inner loop: gradient steps on each task, and the engines that compute them, behind one interface (`engine`)."""
