"""The parameters of the statements of ``store/sql``. Made by "make stub". Do not edit."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from leruli_queue.store.pool import Connection, Pool

class Queries:
    """A method for each statement."""

    @property
    def available_queries(self) -> list[str]: ...
    def abandon_attempts(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        reasons: object,
        losts: object,
        laters: object,
        unstarteds: object,
        max_attempts: object,
        retry_delay_s: object,
    ) -> AsyncIterator[Any]: ...
    async def allow_upload(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
        node_id: object,
        marks: object,
    ) -> Any: ...
    def applied_migrations(self, connection: Connection | Pool) -> AsyncIterator[Any]: ...
    async def ask_for_mail(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        batch_id: object,
        address: object,
        complete: object,
    ) -> str: ...
    def asking_slots(
        self,
        connection: Connection | Pool,
        *,
        slot_max_s: object,
        wait_s: object,
        again_s: object,
        job_ids: object,
        numbers: object,
        keys: object,
        containers: object,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    async def attempt_for_receipt(
        self,
        connection: Connection | Pool,
        *,
        number: object,
        job_id: object,
    ) -> Any: ...
    def attempts_in_flight(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    def attempts_of_job(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def attempts_on_node(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    def attempts_to_end(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        job_ids: object,
        numbers: object,
        unreported: object,
    ) -> AsyncIterator[Any]: ...
    def attempts_to_stop(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def audit_page(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        actions: object,
        before_id: object,
        since: object,
        until: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def avoided_nodes(
        self,
        connection: Connection | Pool,
        *,
        most: object,
        cluster: object,
        job_ids: object,
        numbers: object,
    ) -> AsyncIterator[Any]: ...
    async def batch_now(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        id: object,
    ) -> Any: ...
    def batches_named(
        self,
        connection: Connection | Pool,
        *,
        user_ids: object,
        name: object,
        limit: object,
        first: object,
        last: object,
    ) -> AsyncIterator[Any]: ...
    def batches_to_tell(
        self,
        connection: Connection | Pool,
        *,
        quiet_s: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def begin_token(self, connection: Connection | Pool, *, key_id: object) -> str: ...
    def between_attempts(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        young_s: object,
    ) -> AsyncIterator[Any]: ...
    async def bound_waits(self, connection: Connection | Pool, *, lock_timeout: object) -> Any: ...
    def cancel_jobs(
        self,
        connection: Connection | Pool,
        *,
        reason: object,
        user_id: object,
        job_ids: object,
        group_id: object,
        action: object,
    ) -> AsyncIterator[Any]: ...
    async def cancel_own_jobs(
        self,
        connection: Connection | Pool,
        *,
        reason: object,
        user_id: object,
        job_ids: object,
        group_id: object,
        action: object,
    ) -> Any: ...
    def claim_jobs(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        cluster: object,
        full_cores: object,
        full_memories: object,
        memory_steps: object,
        most_combinations: object,
        at_most: object,
        free_cores: object,
        free_memory_mb: object,
        limit: object,
        node_set: object,
    ) -> AsyncIterator[Any]: ...
    async def claim_mail(self, connection: Connection | Pool, *, lease_s: object) -> Any: ...
    async def claim_probe(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        node_set: object,
        cluster: object,
        pause_s: object,
    ) -> Any: ...
    async def clear_spent_links(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> str: ...
    async def close_mail_request(
        self,
        connection: Connection | Pool,
        *,
        jobs: object,
        failed: object,
        user_id: object,
        batch_id: object,
    ) -> str: ...
    async def cluster_of_group(self, connection: Connection | Pool, *, group_id: object) -> Any: ...
    async def cluster_of_node(self, connection: Connection | Pool, *, node_id: object) -> Any: ...
    def clusters_in_use(self, connection: Connection | Pool) -> AsyncIterator[Any]: ...
    async def count_admins(self, connection: Connection | Pool, *, group_id: object) -> Any: ...
    async def count_ahead(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        most: object,
    ) -> Any: ...
    async def count_backlog(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        most: object,
    ) -> Any: ...
    async def count_backlog_of_user(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        most: object,
    ) -> Any: ...
    async def count_mail_of_user(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        batch_id: object,
    ) -> Any: ...
    async def count_seen_nodes(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        unseen_s: object,
    ) -> Any: ...
    async def count_subset_parents(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> Any: ...
    async def deal_again(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        slot_jobs: object,
        slot_numbers: object,
        keys: object,
    ) -> str: ...
    async def delete_events(
        self,
        connection: Connection | Pool,
        *,
        most: object,
        keep_s: object,
    ) -> Any: ...
    async def delete_follows(self, connection: Connection | Pool) -> str: ...
    async def delete_foreign_events(self, connection: Connection | Pool) -> str: ...
    async def delete_old_mails(self, connection: Connection | Pool, *, keep_s: object) -> str: ...
    async def delete_prepared_token(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> str: ...
    async def delete_unused_mail_requests(
        self,
        connection: Connection | Pool,
        *,
        keep_s: object,
    ) -> str: ...
    async def dispatchers_heard(self, connection: Connection | Pool) -> Any: ...
    async def dispatching_of_group(
        self,
        connection: Connection | Pool,
        *,
        silence_s: object,
        lock: object,
        group_id: object,
    ) -> Any: ...
    async def doubt_failures(self, connection: Connection | Pool, *, job_id: object) -> str: ...
    async def doubt_node(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        job_id: object,
    ) -> str: ...
    async def drain_node(self, connection: Connection | Pool, *, node_id: object) -> str: ...
    async def earlier_node(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        group_id: object,
    ) -> Any: ...
    async def end_attempt(
        self,
        connection: Connection | Pool,
        *,
        outcome: object,
        exit_code: object,
        message: object,
        wall_s: object,
        cpu_s: object,
        peak_memory_mb: object,
        uploaded_bytes: object,
        uploaded_files: object,
        peak_no_cache_mb: object,
        disk_mb: object,
        image_s: object,
        input_s: object,
        output_s: object,
        job_id: object,
        number: object,
    ) -> Any: ...
    def end_attempts(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        states: object,
        reasons: object,
        exit_codes: object,
        messages: object,
        walls: object,
        cpus: object,
        memories: object,
        bytes: object,
        files: object,
        no_caches: object,
        disks: object,
        images: object,
        inputs: object,
        outputs: object,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    async def end_job(
        self,
        connection: Connection | Pool,
        *,
        state: object,
        reason: object,
        exit_code: object,
        job_id: object,
        number: object,
    ) -> str: ...
    async def end_token(
        self,
        connection: Connection | Pool,
        *,
        sealed_under_next: object,
        key_id: object,
    ) -> str: ...
    async def end_when_idle(self, connection: Connection | Pool, *, seconds: object) -> Any: ...
    def ended_of_batch(
        self,
        connection: Connection | Pool,
        *,
        batch: object,
        state: object,
        ended_at: object,
        id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def ends_of_batch(
        self,
        connection: Connection | Pool,
        *,
        batch: object,
        most: object,
    ) -> Any: ...
    def events_after(
        self,
        connection: Connection | Pool,
        *,
        user_ids: object,
        xid: object,
        number: object,
        most_scanned: object,
        job_ids: object,
        states: object,
        batches: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def failed_elsewhere(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
        node_id: object,
    ) -> Any: ...
    def failures_of_batch(
        self,
        connection: Connection | Pool,
        *,
        batch: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def fold_batch_changes(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        most: object,
    ) -> Any: ...
    async def follow_job(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        group_id: object,
        owner_id: object,
        for_s: object,
    ) -> Any: ...
    def followed_on_node(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    def forget_ended_tokens(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    async def forget_parent(
        self,
        connection: Connection | Pool,
        *,
        id: object,
        cluster: object,
    ) -> str: ...
    async def forgive_node(self, connection: Connection | Pool, *, node_id: object) -> str: ...
    def found_jobs(self, connection: Connection | Pool, *, ids: object) -> AsyncIterator[Any]: ...
    async def free_on_node(self, connection: Connection | Pool, *, node_id: object) -> Any: ...
    def grant_in_slots(
        self,
        connection: Connection | Pool,
        *,
        slot_jobs: object,
        slot_numbers: object,
        keys: object,
        cores: object,
        memory_mb: object,
        shm_mb: object,
        spare: object,
        group_id: object,
        at_least: object,
        left_for_others: object,
        node_id: object,
        nomad_memory_mb: object,
    ) -> AsyncIterator[Any]: ...
    def granted_before(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        keys: object,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    async def group_by_name(self, connection: Connection | Pool, *, name: object) -> Any: ...
    async def group_by_token_key_id(
        self,
        connection: Connection | Pool,
        *,
        key_id: object,
    ) -> Any: ...
    def group_names(self, connection: Connection | Pool) -> AsyncIterator[Any]: ...
    def group_overview(self, connection: Connection | Pool) -> AsyncIterator[Any]: ...
    def groups_with_backlog(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    async def hold_administration(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        group_id: object,
    ) -> Any: ...
    async def hold_group_tokens(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> Any: ...
    async def hold_secret(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_id: object,
    ) -> Any: ...
    def idle_parents(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        few_idle_s: object,
        idle_s: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def in_flight_by_resources(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    async def insert_audit_entry(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        actor_id: object,
        action: object,
        subject: object,
        detail: object,
    ) -> str: ...
    async def insert_group(
        self,
        connection: Connection | Pool,
        *,
        name: object,
        token_key_id: object,
        token_hash: object,
    ) -> Any: ...
    async def insert_jobs(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_ids: object,
        ids: object,
        group_ids: object,
        user_ids: object,
        buckets: object,
        names: object,
        codes: object,
        versions: object,
        cores: object,
        memory_mbs: object,
        time_limits: object,
        priorities: object,
    ) -> Any: ...
    async def insert_jobs_in_batches(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_ids: object,
        ids: object,
        group_ids: object,
        user_ids: object,
        buckets: object,
        names: object,
        codes: object,
        versions: object,
        cores: object,
        memory_mbs: object,
        time_limits: object,
        priorities: object,
        disk_mbs: object,
        shm_mbs: object,
        shares: object,
        batch_ids: object,
        batch_names: object,
    ) -> Any: ...
    async def insert_jobs_with_options(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_ids: object,
        ids: object,
        group_ids: object,
        user_ids: object,
        buckets: object,
        names: object,
        codes: object,
        versions: object,
        cores: object,
        memory_mbs: object,
        time_limits: object,
        priorities: object,
        disk_mbs: object,
        shm_mbs: object,
        shares: object,
    ) -> Any: ...
    async def insert_jobs_with_rules(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_ids: object,
        ids: object,
        group_ids: object,
        user_ids: object,
        buckets: object,
        names: object,
        codes: object,
        versions: object,
        cores: object,
        memory_mbs: object,
        time_limits: object,
        priorities: object,
        disk_mbs: object,
        shm_mbs: object,
        shares: object,
        batch_ids: object,
        batch_names: object,
        most_retries: object,
        retry_ons: object,
        most_memory_mbs: object,
        most_time_limits: object,
    ) -> Any: ...
    async def insert_prepared_token(
        self,
        connection: Connection | Pool,
        *,
        key_id: object,
        group_id: object,
        token_hash: object,
        sealed_under_last: object,
    ) -> str: ...
    async def insert_user(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        name: object,
        role: object,
        key_id: object,
        secret_hash: object,
        public_key: object,
        group_token_sealed: object,
        token_key_id: object,
    ) -> Any: ...
    async def job_bucket(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        group_id: object,
        owner_id: object,
    ) -> Any: ...
    def job_statuses(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        group_id: object,
        owner_id: object,
    ) -> AsyncIterator[Any]: ...
    def jobs_of_buckets(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        buckets: object,
        owner_id: object,
    ) -> AsyncIterator[Any]: ...
    def keys_of_group(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    async def limits_of_job(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        group_id: object,
        owner_id: object,
    ) -> Any: ...
    def listed_jobs(self, connection: Connection | Pool, *, ids: object) -> AsyncIterator[Any]: ...
    def living_capacity(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    def lock_attempts_on_node(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        node_id: object,
    ) -> AsyncIterator[Any]: ...
    def lock_batch_to_cancel(
        self,
        connection: Connection | Pool,
        *,
        states: object,
        batch: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def lock_holders(
        self,
        connection: Connection | Pool,
        *,
        least_s: object,
    ) -> AsyncIterator[Any]: ...
    async def lock_node(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
        node_id: object,
    ) -> Any: ...
    def lock_own_to_cancel(
        self,
        connection: Connection | Pool,
        *,
        states: object,
        user_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def lock_to_cancel(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        group_id: object,
        owner_id: object,
    ) -> AsyncIterator[Any]: ...
    async def make_migrations_table(self, connection: Connection | Pool) -> str: ...
    async def make_room(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
        again_s: object,
        slot_job: object,
        slot_number: object,
    ) -> Any: ...
    async def mark_failed_attempt(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
    ) -> str: ...
    async def newest_migration(self, connection: Connection | Pool) -> Any: ...
    async def newest_position(self, connection: Connection | Pool) -> Any: ...
    async def node_by_key_id(self, connection: Connection | Pool, *, key_id: object) -> Any: ...
    async def node_leaves(self, connection: Connection | Pool, *, node_id: object) -> Any: ...
    def nodes_by_name_or_id(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        name: object,
    ) -> AsyncIterator[Any]: ...
    def nodes_of_cluster(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        unseen_s: object,
    ) -> AsyncIterator[Any]: ...
    def nodes_of_group(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        after: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def nodes_to_probe(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    def nodes_to_seal_for(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    async def note_allocations(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        node_ids: object,
        allocation_ids: object,
        deads: object,
        silents: object,
    ) -> str: ...
    async def note_dispatched(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        nomad_job_ids: object,
    ) -> str: ...
    async def note_dispatcher(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        away_s: object,
    ) -> str: ...
    async def note_failed_probe(
        self,
        connection: Connection | Pool,
        *,
        reason: object,
        pause_s: object,
        most_pause_s: object,
        node_id: object,
    ) -> str: ...
    async def note_failure(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        job_id: object,
        reason: object,
        counts: object,
    ) -> str: ...
    async def note_failure_told(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        batch_id: object,
    ) -> str: ...
    async def note_gone(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
    ) -> str: ...
    async def note_images_key(
        self,
        connection: Connection | Pool,
        *,
        token_key_id: object,
        node_id: object,
    ) -> str: ...
    async def note_joined_with(
        self,
        connection: Connection | Pool,
        *,
        public_key: object,
        token_key_id: object,
        node_id: object,
    ) -> str: ...
    async def note_mail_failed(
        self,
        connection: Connection | Pool,
        *,
        error: object,
        try_for_s: object,
        pause_s: object,
        id: object,
        tries: object,
    ) -> Any: ...
    async def note_mail_sent(self, connection: Connection | Pool, *, id: object) -> str: ...
    async def note_migration(
        self,
        connection: Connection | Pool,
        *,
        number: object,
        name: object,
        digest: object,
    ) -> str: ...
    async def note_nodes(
        self,
        connection: Connection | Pool,
        *,
        unobserved: object,
        ids: object,
        alives: object,
        troubles: object,
    ) -> str: ...
    async def note_nomad_away(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        silence_s: object,
    ) -> str: ...
    async def note_parent_uses(
        self,
        connection: Connection | Pool,
        *,
        ids: object,
        agos_s: object,
        cluster: object,
    ) -> str: ...
    async def note_public_key(
        self,
        connection: Connection | Pool,
        *,
        public_key: object,
        node_id: object,
        key_id: object,
    ) -> str: ...
    async def note_report(
        self,
        connection: Connection | Pool,
        *,
        agent_version: object,
        nomad_version: object,
        images: object,
        disk_free_mb: object,
        disk_total_mb: object,
        holds: object,
        trouble: object,
        unenforced: object,
        node_id: object,
    ) -> str: ...
    async def note_running(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        node_ids: object,
        times: object,
    ) -> str: ...
    async def note_running_in_slots(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        node_id: object,
    ) -> str: ...
    async def note_stopped(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        number: object,
        child: object,
    ) -> str: ...
    async def note_success(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        started_at: object,
    ) -> Any: ...
    async def note_unheard(
        self,
        connection: Connection | Pool,
        *,
        node_ids: object,
        cluster: object,
    ) -> str: ...
    async def note_unplaced_reasons(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        reasons: object,
    ) -> str: ...
    def oldest_parents(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        cluster: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def other_nodes_outcomes(
        self,
        connection: Connection | Pool,
        *,
        number: object,
        node_id: object,
        outcomes: object,
        job_id: object,
    ) -> Any: ...
    def overdue_attempts(
        self,
        connection: Connection | Pool,
        *,
        node_silence_s: object,
        cluster: object,
        after: object,
        reports_come_since: object,
        receipt_grace_s: object,
        start_grace_s: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def page_of_batches(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        after: object,
        reference: object,
        digits: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def page_of_group(
        self,
        connection: Connection | Pool,
        *,
        states: object,
        group_id: object,
        from_id: object,
        before_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def page_of_jobs_in_batches(
        self,
        connection: Connection | Pool,
        *,
        batches: object,
        states: object,
        from_id: object,
        before_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    def page_of_users(
        self,
        connection: Connection | Pool,
        *,
        user_ids: object,
        states: object,
        from_id: object,
        before_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def place_among_ended(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        batch: object,
    ) -> Any: ...
    async def platform_works(self, connection: Connection | Pool, *, job_id: object) -> Any: ...
    def quarantine_nodes(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        most: object,
        pause_s: object,
    ) -> AsyncIterator[Any]: ...
    def release_doubted_nodes(
        self,
        connection: Connection | Pool,
        *,
        most: object,
    ) -> AsyncIterator[Any]: ...
    def release_long_probed_nodes(
        self,
        connection: Connection | Pool,
        *,
        long_s: object,
    ) -> AsyncIterator[Any]: ...
    def release_reserved_nodes(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        reserve_after_s: object,
    ) -> AsyncIterator[Any]: ...
    async def remove_node(self, connection: Connection | Pool, *, node_id: object) -> str: ...
    def report_of_jobs(
        self,
        connection: Connection | Pool,
        *,
        ids: object,
        user_id: object,
    ) -> AsyncIterator[Any]: ...
    async def requeue_job(
        self,
        connection: Connection | Pool,
        *,
        reason: object,
        lost: object,
        later: object,
        retry_delay_s: object,
        job_id: object,
        number: object,
    ) -> str: ...
    def reserve_nodes(
        self,
        connection: Connection | Pool,
        *,
        reserve_after_s: object,
        after_slots_s: object,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    async def resume_node(self, connection: Connection | Pool, *, node_id: object) -> str: ...
    async def retry_job(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        reason: object,
        memory_mb: object,
        time_limit_s: object,
        number: object,
    ) -> str: ...
    async def return_attempts(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        node_id: object,
    ) -> str: ...
    async def revoke_user(self, connection: Connection | Pool, *, user_id: object) -> Any: ...
    async def rotate_compute_secret(
        self,
        connection: Connection | Pool,
        *,
        key_id: object,
        hash: object,
        group_id: object,
    ) -> Any: ...
    def run_in_slots(
        self,
        connection: Connection | Pool,
        *,
        slot_jobs: object,
        slot_numbers: object,
        keys: object,
        job_ids: object,
        numbers: object,
        group_id: object,
        node_id: object,
        nomad_memory_mb: object,
    ) -> AsyncIterator[Any]: ...
    async def scan_jobs(
        self,
        connection: Connection | Pool,
        *,
        user_id: object,
        state: object,
        from_id: object,
        before_id: object,
        limit: object,
        name: object,
        tail: object,
    ) -> Any: ...
    async def seal_for_nodes(
        self,
        connection: Connection | Pool,
        *,
        ids: object,
        sealed: object,
    ) -> str: ...
    async def seal_for_user(
        self,
        connection: Connection | Pool,
        *,
        public_key: object,
        sealed: object,
        token_key_id: object,
        user_id: object,
        earlier: object,
    ) -> str: ...
    async def seal_for_users(
        self,
        connection: Connection | Pool,
        *,
        token_key_id: object,
        ids: object,
        sealed: object,
    ) -> str: ...
    async def seize_group_tokens(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> Any: ...
    async def seize_secret(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        key_id: object,
    ) -> Any: ...
    async def set_cluster(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        group_id: object,
    ) -> Any: ...
    async def set_group_disabled(
        self,
        connection: Connection | Pool,
        *,
        disabled: object,
        group_id: object,
    ) -> Any: ...
    async def set_node_sets(
        self,
        connection: Connection | Pool,
        *,
        job_ids: object,
        numbers: object,
        node_sets: object,
    ) -> str: ...
    async def standing_of_node(self, connection: Connection | Pool, *, node_id: object) -> Any: ...
    async def start_attempt(
        self,
        connection: Connection | Pool,
        *,
        node_id: object,
        start_key: object,
        job_id: object,
        number: object,
        lease: object,
    ) -> Any: ...
    async def takes_changes(self, connection: Connection | Pool) -> Any: ...
    def tokens_of_group(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    async def touch_node(self, connection: Connection | Pool, *, node_id: object) -> str: ...
    async def touch_user(
        self,
        connection: Connection | Pool,
        *,
        public_key: object,
        user_id: object,
    ) -> str: ...
    async def try_lead(
        self,
        connection: Connection | Pool,
        *,
        lock: object,
        cluster_locks: object,
        cluster: object,
    ) -> Any: ...
    async def try_lock(self, connection: Connection | Pool, *, lock: object) -> Any: ...
    def undispatched_attempts(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        paused_groups: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def unlock(self, connection: Connection | Pool, *, lock: object) -> Any: ...
    def unplaced_attempts(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
    ) -> AsyncIterator[Any]: ...
    async def upsert_node(
        self,
        connection: Connection | Pool,
        *,
        id: object,
        group_id: object,
        cluster: object,
        name: object,
        key_id: object,
        token_hash: object,
        epoch: object,
        cores: object,
        memory_mb: object,
        agent_version: object,
    ) -> Any: ...
    def usable_nodes(
        self,
        connection: Connection | Pool,
        *,
        cluster: object,
        unseen_s: object,
    ) -> AsyncIterator[Any]: ...
    def usage_of_group(
        self,
        connection: Connection | Pool,
        *,
        by_user: object,
        by_code: object,
        by_month: object,
        by_batch: object,
        batches: object,
        group_id: object,
        since: object,
        until: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def use_parent(
        self,
        connection: Connection | Pool,
        *,
        id: object,
        cluster: object,
        group_id: object,
        few_nodes: object,
        most: object,
    ) -> Any: ...
    async def user_by_key_id(self, connection: Connection | Pool, *, key_id: object) -> Any: ...
    async def user_by_name(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        name: object,
        key_id: object,
    ) -> Any: ...
    def users_named(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        name: object,
    ) -> AsyncIterator[Any]: ...
    def users_of_group(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
        with_revoked: object,
    ) -> AsyncIterator[Any]: ...
    def users_to_seal_for(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    def users_with_events(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> AsyncIterator[Any]: ...
    async def users_with_new_events(self, connection: Connection | Pool, *, xid: object) -> Any: ...
    async def valid_token_key_id(
        self,
        connection: Connection | Pool,
        *,
        group_id: object,
    ) -> Any: ...
    def waiting_in_nomad(
        self,
        connection: Connection | Pool,
        *,
        again_s: object,
        group_id: object,
        wait_s: object,
        node_id: object,
        limit: object,
    ) -> AsyncIterator[Any]: ...
    async def why_no_start(
        self,
        connection: Connection | Pool,
        *,
        job_id: object,
        node_id: object,
    ) -> Any: ...
    def why_not_submitted(
        self,
        connection: Connection | Pool,
        *,
        user_ids: object,
        buckets: object,
    ) -> AsyncIterator[Any]: ...
    async def write_mail(
        self,
        connection: Connection | Pool,
        *,
        id: object,
        user_id: object,
        batch_id: object,
        address: object,
        subject: object,
        body: object,
    ) -> str: ...

queries: Queries

async def rows(selection: AsyncIterator[Any]) -> list[Any]: ...
def prepared(name: str, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]: ...
