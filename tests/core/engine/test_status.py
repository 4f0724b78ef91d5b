from partwise._engine.status import RunStatus


def test_highest_number_of_parts_in_flight_is_kept():
    status = RunStatus()
    for count in (1, 3, 2):
        status.set_in_flight(count)
    assert (status.parts_in_flight, status.concurrency_reached) == (2, 3)


def test_outage_is_reported_once_from_its_first_failure_to_its_end():
    reported = []
    status = RunStatus(lambda now: reported.append((now.reason, now.gives_up_at)), reported.append)
    status.recovered(5.0)
    status.failing(10.0, "no connection to HOST", 310.0)
    status.failing(12.0, "the storage throttles", 320.0)
    assert (status.reason, status.failing_since, status.gives_up_at) == ("the storage throttles", 10.0, 320.0)
    status.recovered(17.0)
    status.recovered(18.0)
    assert reported == [("no connection to HOST", 310.0), 7.0]
    assert (status.reason, status.failing_since, status.gives_up_at) == (None, None, None)
    status.failing(20.0, "no connection to HOST", None)
    assert reported[2:] == [("no connection to HOST", None)]
