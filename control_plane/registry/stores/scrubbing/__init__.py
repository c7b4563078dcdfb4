"""Reading every copy of every blob again and again, and healing what is not right.

    scrubber   one pass: what is due, oldest first; one copy, from reading to healing
    healing    where good bytes come from: another copy, then the `Healers` in their order
    messages   what is announced
    service    for routes and commands
    jobs       when

A copy that is not the blob is never served again: it is moved aside in its store, then its row says so, then it is
healed. If nobody has the bytes, the blob is reported as lost, with the images that need it, until a push, a mirror or
anything else brings it back; it is looked for in every pass.
"""
