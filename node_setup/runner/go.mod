module leruli-queue.invalid/runner

go 1.21
