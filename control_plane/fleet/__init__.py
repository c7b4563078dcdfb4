"""IDCs, hosts and regionals: enrolment, identity, and the long streams over which desired state goes down and reports
come up.
"""
