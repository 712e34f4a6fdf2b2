static unsigned int test;
static unsigned int failed;
static unsigned int skipped;

/* What the VM that is asked first answers. */
static struct told {
	void *data;
	size_t size;
} first_told[ANSWERS];

static void tap_begin(unsigned int plan)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%u\n", plan);
}

static void tap_result(int good, const char *what)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++test, what);
	failed += !good;
}

static void tap_skip(const char *what, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++test, what, why);
	skipped++;
}

/* What was skipped may be what would have failed. */
static int tap_end(void)
{
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:%u error:0\n",
	       test - failed - skipped, failed, skipped);
	if (failed)
		return KSFT_FAIL;
	return skipped ? KSFT_SKIP : KSFT_PASS;
}

/* The host cannot run this at all. */
static void cannot(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(KSFT_FAIL);
}
