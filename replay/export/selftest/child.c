/*
 * Runs the steps in a child, since a host that oopses kills whoever asked, if it does not end
 * itself. Returns whether the child ended as it should.
 */
static int lives_through(void (*steps)(struct vm *vm), struct vm *vm)
{
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0)
		cannot("fork");
	if (!child) {
		new_vm(vm);
		steps(vm);
		fflush(stdout);
		_exit(0);
	}
	for (int tenths = 0; tenths < 300; tenths++) {
		if (waitpid(child, &status, WNOHANG) == child) {
			if (WIFSIGNALED(status))
				printf("# killed by signal %d: see the host's log\n",
				       WTERMSIG(status));
			return WIFEXITED(status) && !WEXITSTATUS(status);
		}
		usleep(100000);
	}
	printf("# it hangs: see the host's log\n");
	return 0;
}
