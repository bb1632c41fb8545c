/* Submits jobs through SLURM's C API: slurm_submit CLIENTS JOBS. Each client is a process that
 * submits its share one by one. SLURM has no call for many different jobs; all jobs of an array are
 * the same. The exit code is 1 if SLURM refuses a job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

static int submit_one(void)
{
    char *environment[] = {"PATH=/usr/bin:/bin", NULL};
    job_desc_msg_t job;
    submit_response_msg_t *answer = NULL;

    slurm_init_job_desc_msg(&job);
    job.name = "bench";
    job.script = "#!/bin/sh\ntrue\n";
    job.work_dir = "/tmp";
    job.std_out = "/dev/null";
    job.std_err = "/dev/null";
    job.user_id = getuid();
    job.group_id = getgid();
    job.min_cpus = 1;
    job.environment = environment;
    job.env_size = 1;
    if (slurm_submit_batch_job(&job, &answer) != SLURM_SUCCESS) {
        fprintf(stderr, "not accepted: %s\n", slurm_strerror(slurm_get_errno()));
        return 1;
    }
    slurm_free_submit_response_response_msg(answer);
    return 0;
}

int main(int argc, char **argv)
{
    int clients, jobs, client, job, status, failed = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: %s CLIENTS JOBS\n", argv[0]);
        return 2;
    }
    clients = atoi(argv[1]);
    jobs = atoi(argv[2]);
    slurm_init(NULL);
    for (client = 0; client < clients; client++) {
        if (fork() == 0) {
            for (job = client; job < jobs; job += clients)
                if (submit_one())
                    _exit(1);
            _exit(0);
        }
    }
    while (wait(&status) > 0)
        failed |= status;
    return failed ? 1 : 0;
}
